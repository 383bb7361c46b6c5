"""Brings accounts to the state that W&B integration needs; decides, and acts through ports."""
