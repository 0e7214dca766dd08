"""What may a row ask for besides text, and is an answer that?"""
