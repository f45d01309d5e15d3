/** Errors that are meant for the user. */

/** An error that the user can correct: its message says what is wrong and what to do. */
export class UserError extends Error {}

/**
 * The text of an error, for the user.
 * @param {unknown} error
 * @returns {string}
 */
export function describe(error) {
  if (error instanceof UserError) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  return `${text} (unforeseen; the browser's console shows where)`;
}
