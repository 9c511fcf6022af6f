"""Charts: one function from data to a Plotly figure each, for pages and notebooks alike. Light."""
