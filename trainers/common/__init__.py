"""What the trainings share: grouped configurations, run folders, and the runner of experiments with several arms."""
