"""Who says how good an image is: base rewards, and detectors of defects. What is not answered is never rewarded."""
