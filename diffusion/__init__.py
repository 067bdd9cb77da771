"""The product: backbones, denoiser, training, checkpoints and the sampling API."""

from .alignment import Alignment, Encoder
from .arrays import ArrayData
from .augment import Augment, Augmented, Flip
from .backbones import ADM, DDPMPP, EDM2, DiT, Features, UNet, features, sized
from .calibrate import Found, calibrate
from .captions import Captions
from .clocks import Clock, EntryClock, LogSNRClock, SigmaClock, TimeClock
from .data import Batch, Digits, Source
from .denoiser import Denoiser
from .edm_augment import EDMAugment
from .encode import encode
from .excluding import Excluding
from .filtered import Filtered, Try
from .fingerprint import fingerprint
from .generate import generate
from .generated import Generated
from .guidance_fit import Cosines, fit_linear, measure_cosines
from .hashed_words import HashedWords
from .hub_data import HuggingFace
from .hugging_face_text import HuggingFaceText
from .image_folder import ImageFolder
from .interrupt import Interrupted
from .latents import LatentArray
from .learned_variance import Hybrid, VariationalBound
from .learning_rates import Constant, InverseSqrt, Linear, Rate, Stable, WarmupCosine
from .loading import load
from .measuring.evaluating import evaluate
from .model import Model
from .mup import MuP
from .objective import Losses, Noised, Objective, Regression
from .optimizers import AdamW, Group, Library, Muon, Optimizer
from .picture_folder import PictureFolder
from .recipe import Recipe
from .samples import Samples
from .scan import Checkable, Scan, scan
from .split import Split
from .stored_text import StoredText, store_texts
from .trainer import train
from .transforms import AdaptiveClip, Centralise, ClipValue, GradientNoise, GradientTransform, NanToNum
from .uncertainty import LearnedUncertainty
from .vae import Vae

__all__ = [
    "ADM",
    "DDPMPP",
    "EDM2",
    "AdamW",
    "AdaptiveClip",
    "Alignment",
    "ArrayData",
    "Augment",
    "Augmented",
    "Batch",
    "Captions",
    "Centralise",
    "Checkable",
    "ClipValue",
    "Clock",
    "Constant",
    "Cosines",
    "Denoiser",
    "DiT",
    "Digits",
    "EDMAugment",
    "Encoder",
    "EntryClock",
    "Excluding",
    "Features",
    "Filtered",
    "Flip",
    "Found",
    "Generated",
    "GradientNoise",
    "GradientTransform",
    "Group",
    "HashedWords",
    "HuggingFace",
    "HuggingFaceText",
    "Hybrid",
    "ImageFolder",
    "Interrupted",
    "InverseSqrt",
    "LatentArray",
    "LearnedUncertainty",
    "Library",
    "Linear",
    "LogSNRClock",
    "Losses",
    "Model",
    "MuP",
    "Muon",
    "NanToNum",
    "Noised",
    "Objective",
    "Optimizer",
    "PictureFolder",
    "Rate",
    "Recipe",
    "Regression",
    "Samples",
    "Scan",
    "SigmaClock",
    "Source",
    "Split",
    "Stable",
    "StoredText",
    "TimeClock",
    "Try",
    "UNet",
    "Vae",
    "VariationalBound",
    "WarmupCosine",
    "calibrate",
    "encode",
    "evaluate",
    "features",
    "fingerprint",
    "fit_linear",
    "generate",
    "load",
    "measure_cosines",
    "scan",
    "sized",
    "store_texts",
    "train",
]
