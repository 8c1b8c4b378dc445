"""The pages for people: files that are the same for everybody, at addresses of their own. What they show they fetch."""
