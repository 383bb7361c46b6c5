"""The local Functions host: serves an Azure Functions app on a laptop as Azure would.

The app is indexed and invoked by Microsoft's own worker library; this package supplies what
surrounds it in the cloud: the HTTP front, the Event Grid webhook, timers, queue triggers and
the admin API. It knows nothing of the app it runs.
"""
