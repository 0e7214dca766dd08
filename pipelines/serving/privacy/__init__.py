"""Which parts of a text are personal, by rule, and how are they taken out before anything is kept?"""
