"""What does one signal of live traffic say: errors, latency, scores, predictions?"""
