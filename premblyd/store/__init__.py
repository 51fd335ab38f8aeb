"""What is kept: events, deliveries, attempts, rejections and what operators did."""
