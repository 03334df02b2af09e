"""Campaigns of faults: mutated files, generated arguments, kills, full disks; see README.md."""
