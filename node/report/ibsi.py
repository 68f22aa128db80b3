"""Radiomic features as coded measurements: IBSI's code where pyradiomics measures what IBSI defines, and the unit."""

from collections.abc import Mapping
from typing import Final

from pydicom.sr.coding import Code

from node.report.codes import NO_UNITS, SCHEME

IBSI: Final = "IBSI"
"""Designator of the Image Biomarker Standardisation Initiative. Source: PS3.16 section 8, Table 8-1."""

OTHER_FEATURE: Final = Code("RADFEATURE", SCHEME, "Radiomic feature, defined by pyradiomics")
"""What pyradiomics measures otherwise than IBSI, or what IBSI has not (tests/golden/ibsi_differences.md)."""


def feature_concept(feature: str) -> Code:
    """Returns the concept of a feature by pyradiomics' name; filtered images have none of IBSI's unfiltered ones."""
    found = _CODES.get(feature.removeprefix(_PLAIN)) if feature.startswith(_PLAIN) else None
    return OTHER_FEATURE if found is None else Code(found[0], IBSI, found[1])


def feature_unit(feature: str) -> Code:
    """Returns the UCUM unit of a feature; those of discretised grey levels have none."""
    unit = _UNITS.get(feature.removeprefix(_PLAIN)) if feature.startswith(_PLAIN) else None
    return NO_UNITS if unit is None else Code(unit, "UCUM", unit)


_PLAIN: Final = "original_"
"""How pyradiomics marks features of the unfiltered image."""

_HU: Final = "[hnsf'U]"
_UNITS: Final[Mapping[str, str]] = {
    "shape_MeshVolume": "mm3",
    "shape_VoxelVolume": "mm3",
    "shape_SurfaceArea": "mm2",
    "shape_SurfaceVolumeRatio": "mm-1",
    "shape_LeastAxisLength": "mm",
    "shape_MajorAxisLength": "mm",
    "shape_MinorAxisLength": "mm",
    "shape_Maximum2DDiameterColumn": "mm",
    "shape_Maximum2DDiameterRow": "mm",
    "shape_Maximum2DDiameterSlice": "mm",
    "shape_Maximum3DDiameter": "mm",
    "firstorder_10Percentile": _HU,
    "firstorder_90Percentile": _HU,
    "firstorder_InterquartileRange": _HU,
    "firstorder_Maximum": _HU,
    "firstorder_MeanAbsoluteDeviation": _HU,
    "firstorder_Mean": _HU,
    "firstorder_Median": _HU,
    "firstorder_Minimum": _HU,
    "firstorder_Range": _HU,
    "firstorder_RobustMeanAbsoluteDeviation": _HU,
    "firstorder_RootMeanSquared": _HU,
    "firstorder_Energy": f"{_HU}2",
    "firstorder_Variance": f"{_HU}2",
    "firstorder_TotalEnergy": f"mm3.{_HU}2",
}
"""Source: pyradiomics 3.0.1, shape.py and firstorder.py; UCUM."""

_CODES: Final[Mapping[str, tuple[str, str]]] = {
    "shape_Elongation": ("Q3CK", "Elongation"),
    "shape_Flatness": ("N17B", "Flatness"),
    "shape_Maximum3DDiameter": ("L0JK", "Maximum 3D diameter"),
    "shape_MeshVolume": ("RNU0", "Volume"),
    "shape_Sphericity": ("QCFX", "Sphericity"),
    "shape_SurfaceArea": ("C0JK", "Surface area"),
    "shape_SurfaceVolumeRatio": ("2PR5", "Surface to volume ratio"),
    "shape_VoxelVolume": ("YEKZ", "Approximate volume"),
    "firstorder_10Percentile": ("QG58", "10th percentile"),
    "firstorder_90Percentile": ("8DWT", "90th percentile"),
    "firstorder_Energy": ("N8CA", "Energy"),
    "firstorder_Entropy": ("TLU2", "Intensity histogram entropy"),
    "firstorder_InterquartileRange": ("SALO", "Interquartile range"),
    "firstorder_Maximum": ("84IY", "Maximum grey level"),
    "firstorder_MeanAbsoluteDeviation": ("4FUA", "Mean absolute deviation"),
    "firstorder_Mean": ("Q4LE", "Mean"),
    "firstorder_Median": ("Y12H", "Median"),
    "firstorder_Minimum": ("1GSF", "Minimum grey level"),
    "firstorder_Range": ("2OJQ", "Range"),
    "firstorder_RobustMeanAbsoluteDeviation": ("1128", "Robust mean absolute deviation"),
    "firstorder_RootMeanSquared": ("5ZWQ", "Root mean square"),
    "firstorder_Skewness": ("KE2A", "Skewness"),
    "firstorder_Uniformity": ("BJ5W", "Intensity histogram uniformity"),
    "firstorder_Variance": ("ECT3", "Variance"),
    "glcm_Autocorrelation": ("QWB0", "Autocorrelation"),
    "glcm_ClusterProminence": ("AE86", "Cluster prominence"),
    "glcm_ClusterShade": ("7NFM", "Cluster shade"),
    "glcm_ClusterTendency": ("DG8W", "Cluster tendency"),
    "glcm_Contrast": ("ACUI", "(GLCM) Contrast"),
    "glcm_Correlation": ("NI2N", "Correlation"),
    "glcm_DifferenceAverage": ("TF7R", "Difference average"),
    "glcm_DifferenceEntropy": ("NTRS", "Difference entropy"),
    "glcm_DifferenceVariance": ("D3YU", "Difference variance"),
    "glcm_Id": ("IB1Z", "Inverse difference"),
    "glcm_Idm": ("WF0Z", "Inverse difference moment"),
    "glcm_Idmn": ("1QCO", "Normalised inverse difference moment"),
    "glcm_Idn": ("NDRX", "Normalised inverse difference"),
    "glcm_Imc1": ("R8DG", "First measure of information correlation"),
    "glcm_Imc2": ("JN9H", "Second measure of information correlation"),
    "glcm_InverseVariance": ("E8JP", "Inverse variance"),
    "glcm_JointAverage": ("60VM", "Joint average"),
    "glcm_JointEnergy": ("8ZQL", "Angular second moment"),
    "glcm_JointEntropy": ("TU9B", "Joint entropy"),
    "glcm_MaximumProbability": ("GYBY", "Joint maximum"),
    "glcm_SumAverage": ("ZGXS", "Sum average"),
    "glcm_SumEntropy": ("P6QZ", "Sum entropy"),
    "glcm_SumSquares": ("UR99", "Joint variance"),
    "gldm_DependenceEntropy": ("FCBV", "Dependence count entropy"),
    "gldm_DependenceNonUniformity": ("Z87G", "Dependence count non-uniformity"),
    "gldm_DependenceNonUniformityNormalized": ("OKJI", "Dependence count non-uniformity normalised"),
    "gldm_DependenceVariance": ("DNX2", "Dependence count variance"),
    "gldm_GrayLevelNonUniformity": ("FP8K", "Grey level non-uniformity"),
    "gldm_GrayLevelVariance": ("1PFV", "Grey level variance"),
    "gldm_HighGrayLevelEmphasis": ("OAE7", "High grey level count emphasis"),
    "gldm_LargeDependenceEmphasis": ("IMOQ", "High dependence emphasis"),
    "gldm_LargeDependenceHighGrayLevelEmphasis": ("9QMG", "High dependence high grey level emphasis"),
    "gldm_LargeDependenceLowGrayLevelEmphasis": ("NBZI", "High dependence low grey level emphasis"),
    "gldm_LowGrayLevelEmphasis": ("TL9H", "Low grey level count emphasis"),
    "gldm_SmallDependenceEmphasis": ("SODN", "Low dependence emphasis"),
    "gldm_SmallDependenceHighGrayLevelEmphasis": ("JA6D", "Low dependence high grey level emphasis"),
    "gldm_SmallDependenceLowGrayLevelEmphasis": ("EQ3F", "Low dependence low grey level emphasis"),
    "glrlm_GrayLevelNonUniformity": ("R5YN", "Grey level non-uniformity"),
    "glrlm_GrayLevelNonUniformityNormalized": ("OVBL", "Normalised grey level non-uniformity"),
    "glrlm_GrayLevelVariance": ("8CE5", "Grey level variance"),
    "glrlm_HighGrayLevelRunEmphasis": ("G3QZ", "High grey level run emphasis"),
    "glrlm_LongRunEmphasis": ("W4KF", "Long runs emphasis"),
    "glrlm_LongRunHighGrayLevelEmphasis": ("3KUM", "Long run high grey level emphasis"),
    "glrlm_LongRunLowGrayLevelEmphasis": ("IVPO", "Long run low grey level emphasis"),
    "glrlm_LowGrayLevelRunEmphasis": ("V3SW", "Low grey level run emphasis"),
    "glrlm_RunEntropy": ("HJ9O", "Run entropy"),
    "glrlm_RunLengthNonUniformity": ("W92Y", "Run length non-uniformity"),
    "glrlm_RunLengthNonUniformityNormalized": ("IC23", "Normalised run length non-uniformity"),
    "glrlm_RunPercentage": ("9ZK5", "Run percentage"),
    "glrlm_RunVariance": ("SXLW", "Run length variance"),
    "glrlm_ShortRunEmphasis": ("22OV", "Short runs emphasis"),
    "glrlm_ShortRunHighGrayLevelEmphasis": ("GD3A", "Short run high grey level emphasis"),
    "glrlm_ShortRunLowGrayLevelEmphasis": ("HTZT", "Short run low grey level emphasis"),
    "glszm_GrayLevelNonUniformity": ("JNSA", "Grey level non-uniformity"),
    "glszm_GrayLevelNonUniformityNormalized": ("Y1RO", "Normalised grey level non-uniformity"),
    "glszm_GrayLevelVariance": ("BYLV", "Grey level variance"),
    "glszm_HighGrayLevelZoneEmphasis": ("5GN9", "High grey level zone emphasis"),
    "glszm_LargeAreaEmphasis": ("48P8", "Large zone emphasis"),
    "glszm_LargeAreaHighGrayLevelEmphasis": ("J17V", "Large zone high grey level emphasis"),
    "glszm_LargeAreaLowGrayLevelEmphasis": ("YH51", "Large zone low grey level emphasis"),
    "glszm_LowGrayLevelZoneEmphasis": ("XMSY", "Low grey level zone emphasis"),
    "glszm_SizeZoneNonUniformity": ("4JP3", "Zone size non-uniformity"),
    "glszm_SizeZoneNonUniformityNormalized": ("VB3A", "Normalised zone size non-uniformity"),
    "glszm_SmallAreaEmphasis": ("5QRC", "Small zone emphasis"),
    "glszm_SmallAreaHighGrayLevelEmphasis": ("HW1V", "Small zone high grey level emphasis"),
    "glszm_SmallAreaLowGrayLevelEmphasis": ("5RAI", "Small zone low grey level emphasis"),
    "glszm_ZoneEntropy": ("GU8N", "Zone size entropy"),
    "glszm_ZonePercentage": ("P30P", "Zone percentage"),
    "glszm_ZoneVariance": ("3NSA", "Zone size variance"),
    "ngtdm_Busyness": ("NQ30", "Busyness"),
    "ngtdm_Coarseness": ("QCDE", "Coarseness"),
    "ngtdm_Complexity": ("HDEZ", "Complexity"),
    "ngtdm_Contrast": ("65HE", "(NGTDM) Contrast"),
    "ngtdm_Strength": ("1X9X", "Strength"),
}
"""Source: IBSI 1 reference manual (arXiv 1612.07003v11), permanent identifiers of the features."""
