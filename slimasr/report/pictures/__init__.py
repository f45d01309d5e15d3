"""What pictures show, and drawing them as HTML and PNG."""
