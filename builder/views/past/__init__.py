"""Results of commands that look back: at all jobs, at all builds."""
