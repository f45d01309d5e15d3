"""Reports: one HTML page, pictures and RESULTS.md, all made from what the exp folders hold."""
