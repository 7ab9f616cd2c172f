"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# No deadline for an example: how fast a shared machine is today says nothing about the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
