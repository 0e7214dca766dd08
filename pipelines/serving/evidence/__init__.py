"""What is counted of requests, for the judge?"""
