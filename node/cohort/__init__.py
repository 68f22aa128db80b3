"""From finished studies to a cohort of pseudonymised cases, and the outcomes that join them later."""
