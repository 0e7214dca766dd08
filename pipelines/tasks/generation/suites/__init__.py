"""What do suites say besides numbers?"""
