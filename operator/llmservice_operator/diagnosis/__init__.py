"""What is wrong with pods, as their status, their last words, the scheduler and events tell it.

Decisions and status both ask here, so that what is taken back is what people are told.
"""
