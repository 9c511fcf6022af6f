"""Faults on purpose: workers and servers killed, disks filled, memory eaten, queues raced for."""
