"""The control side: what compares the project with the outside, changes it, and judges whether it is true."""
