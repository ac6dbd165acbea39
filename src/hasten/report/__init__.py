"""Reports: results as a table and as a page; this room computes nothing."""
