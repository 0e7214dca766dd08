"""What did a language model answer, and when? One pass over what passes anyway, without a tokenizer."""
