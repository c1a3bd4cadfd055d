"""Many jobs from one YAML file: read, planned, run on one machine or many."""
