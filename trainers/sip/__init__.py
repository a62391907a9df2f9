"""SIP: the trainer, its options, what is made of candidates, who is asked, what is logged; a file each."""

from ixt_rl.trainers.sip.config import SIPConfig
from ixt_rl.trainers.sip.trainer import Example, SIPTrainer

__all__ = ["Example", "SIPConfig", "SIPTrainer"]
