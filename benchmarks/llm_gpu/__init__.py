"""What do releases of language models cost and do on a machine with a GPU and a real vLLM?"""
