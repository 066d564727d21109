"""The mutual-recognition gateway: one province's side of the federation (身份凭证互认网关)."""
