"""Prelabels and enrichments: what a vision-language model says about images, asked, checked and recorded."""
