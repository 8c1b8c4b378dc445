"""The rules of the operators, class by class, and the forms that they must have."""
