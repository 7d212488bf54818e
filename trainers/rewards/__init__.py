"""Base rewards and detectors of defects, which judge the images of a training. No answer means no reward."""
