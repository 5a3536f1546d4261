"""One page of many runs: what they are (`read`), their pictures (`charts`), the page (`page`)."""
