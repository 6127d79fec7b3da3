"""Amazon Bedrock's Converse protocol, with its binary event stream."""
