"""OpenRLHF's `train_ppo_ray` with InTRO and RLSD in its actors.

    stage --flags.py--> its flags        job.py starts it, and reads what it writes
    driver.py (its main process) -> actors.py (its Ray actors) -> updates.py (the losses, by our kernels)
                                    executor.py (in its engines: rollouts and rewards)

driver, actors and executor are imported by the Python of OpenRLHF's environment alone.
"""
