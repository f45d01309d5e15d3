"""Encoders made of elastic layers."""
