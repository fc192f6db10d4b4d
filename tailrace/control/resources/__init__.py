"""What a project needs outside, one module per kind; each class is a tailrace.resource.Resource."""
