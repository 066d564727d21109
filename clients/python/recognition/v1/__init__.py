"""Version 1 of the contract; every module beside this one is generated from proto/recognition/v1 by ``make proto``."""
