"""Which kernel runs: settings, the machine, the ordered kernel lists, plans and tuning."""
