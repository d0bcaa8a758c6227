"""Every metric once: training validation, `gcfsr evaluate`, its reports and the figures call these."""
