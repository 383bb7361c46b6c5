"""Questions that tell whether a process of the stack is up."""

import asyncio

import aiohttp


async def answers(url: str) -> bool:
    """Tell whether a GET of `url` answers 200 within two seconds."""
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def listens(port: int) -> bool:
    """Tell whether something on this machine accepts connections on `port`."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
