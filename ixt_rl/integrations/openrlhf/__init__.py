"""OpenRLHF's `train_ppo_ray` with InTRO and RLSD in its actors, and its `train_sft` on our rows and masks.

    stage --flags.py--> its flags        job.py starts it, and reads what it writes (recording.py)
    driver.py (its main process) -> actors.py (its Ray actors) -> updates.py (the losses, by our kernels)
                                    executor.py (in its engines: rollouts) -> rewarding.py (their rewards)
    sft_driver.py (its ranks) -> sft.py (its SFT trainer) <- token_files.py (rows of ids, written before)

driver, actors, executor, sft_driver and sft are imported by the Python of OpenRLHF's environment alone.
"""
