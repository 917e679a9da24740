"""What every file of the suite must look like; a regular package for the reason in modules/."""
