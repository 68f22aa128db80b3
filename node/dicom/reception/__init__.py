"""The storage SCP: who may call, what is accepted, and bytes that are safe before success is answered."""
