"""How is a language model served: by which engine, told what, on which devices, in how much memory?"""
