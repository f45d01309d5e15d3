"""Reports: one HTML page, pictures and RESULTS.md, all made from what the experiment folders hold."""
