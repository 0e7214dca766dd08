"""What do causal language models do: continue a prompt, or answer a conversation?"""
