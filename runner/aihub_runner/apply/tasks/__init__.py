"""One module for each kind of task: what is asked, and how its outcome is recorded."""
