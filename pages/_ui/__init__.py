"""What pages share: the draft, fields, charts, grids, progress of jobs, words."""
