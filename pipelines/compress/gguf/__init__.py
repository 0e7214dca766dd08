"""How does a Hugging Face folder become one file for llama.cpp, and is it seen that its tokens are the same?"""
