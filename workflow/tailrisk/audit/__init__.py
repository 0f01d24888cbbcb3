"""Record- and patient-level attack success of one experiment under one query; pure functions on arrays."""
