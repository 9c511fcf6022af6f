"""The pages of share links: for guests on their phones, and the wall for a big screen.

They are small pages of their own, not Streamlit's: a guest has no session and reaches nothing else.
"""
