"""AWS sessions, retries, start rate, parallel calls and cancellation. Knows nothing of Marengo."""
