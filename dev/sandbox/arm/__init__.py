"""Azure Resource Manager: accounts, vaults, roles."""
