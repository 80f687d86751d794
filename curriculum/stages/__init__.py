"""Stages of training, one file each."""
