"""The control plane: what should be deployed, decided and written down."""
